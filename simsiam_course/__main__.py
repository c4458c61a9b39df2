"""`python -m simsiam_course` is `simsiam-course`."""

from .cli import main

if __name__ == "__main__":
    main()
