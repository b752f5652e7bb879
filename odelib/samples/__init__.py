"""Small real parts of MNIST, Fashion-MNIST and CIFAR-10, so that book and tests need no network. See README.md beside this file."""
