"""What a run would need, from sizes alone: arithmetic that follows the kernels stage by stage.

Nothing here reads data, imports a kernel or knows a path. Each function mirrors one step of the
code and says, in the order in which things happen, which arrays live at the same time and how much
work is done; whoever changes a stage changes its few lines here (``make bench-plan`` shows whether
they still hold).
"""
