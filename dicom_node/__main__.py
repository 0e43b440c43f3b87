"""`python -m dicom_node` is the command line."""

from dicom_node.cli import main

if __name__ == "__main__":
    main()
