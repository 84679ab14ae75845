"""`python -m tflnest`."""

from tflnest.cli import main

if __name__ == "__main__":
    main()
