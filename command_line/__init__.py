"""What the scripts share at the command line: errors that a user can mend, said in one line."""


class UserError(Exception):
    """Something that the user can mend, said in one line."""


def in_one_line(error):
    """An exception as a line for the user."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return (str(error).splitlines() or [type(error).__name__])[0]
