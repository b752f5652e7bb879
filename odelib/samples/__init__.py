"""Small real parts of three data sets, so that book and tests need no network. See README.md beside this file."""
