"""Books, queues and samples of one symbol."""
