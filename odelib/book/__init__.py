"""The hands of the book: figures from records, and what its pages use to show numbers and tables."""
