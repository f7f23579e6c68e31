"""The user's data: pairs and questions, from files, tables and known data sets."""
