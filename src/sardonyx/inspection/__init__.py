"""Looking at models and at the compiler from outside: verification, descriptions, the table of operators."""
