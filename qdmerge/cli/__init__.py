"""The command line: parses, calls the library, prints.

A package adds a command by an entry point of the group ``qdmerge.commands``: the name is the verb,
the value a function as Typer takes it, or a Typer app. For authors of commands:

- :data:`Source`, :data:`Settings`, :data:`Unsandboxed`: common arguments and options.
- :data:`console`, :data:`error_console`, :func:`print_warning`: where to print.
- :func:`show_progress`: a listener that shows the progress of a run.
- :func:`new_folder`, :func:`refuse_unsandboxed`, :func:`end_like_interrupt`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
