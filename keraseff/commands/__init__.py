"""What `python -m keraseff` can do, one module a command."""

import argparse
import os
import sys

from keraseff.checkpoints import CheckpointError
from keraseff.commands import convert
from keraseff.commands import inspect

COMMANDS = {'inspect': inspect, 'convert': convert}
# What a file may cost a reader that no check foresaw; a command never ends in these.
_FAULTS = (Exception, RecursionError, MemoryError)

__all__ = ['COMMANDS', 'main']


def make_parser():
    """The parser of the command line, with a section for each command."""
    parser = argparse.ArgumentParser(
        prog='python -m keraseff',
        description='Look into checkpoints of Transformers, and change their format.',
    )
    sections = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, module in COMMANDS.items():
        section = sections.add_parser(
            name,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(section)
    return parser


def main(arguments=None):
    """Run a command.

    Args:
        arguments: those of the command line, without the program's name; by default
            what Python was called with.

    Returns:
        The exit code: 0 as hoped, 1 if a checkpoint does not fit, 2 if a file cannot be
        read, or written.
    """
    options = make_parser().parse_args(arguments)
    try:
        return COMMANDS[options.command].run(options)
    except KeyboardInterrupt:
        return _fail('interrupted.')
    except BrokenPipeError:
        # `| head` closed the pipe; Python would complain once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except (CheckpointError, OSError, ValueError, TypeError) as error:
        return _fail(error)
    except _FAULTS as error:
        return _fail(f'{type(error).__name__}: {error}')


def _fail(error):
    from keraseff.commands.output import plain

    print(f'error: {plain(str(error))}', file=sys.stderr)
    return 2
