"""Problems: models with data and, where it exists, their exact truth."""
