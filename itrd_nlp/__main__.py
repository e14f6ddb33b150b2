"""`python -m itrd_nlp` is the command `itrd-nlp`."""

from itrd_nlp.cli.main import main

if __name__ == "__main__":
    main()
