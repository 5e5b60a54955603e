"""The entry point of `python -m stml_tf`, which is the command `stml-tf`."""

from stml_tf.cli.main import main

main(prog_name="stml-tf")
