"""What users bring: pairs and questions, from files, tables and known data sets."""
