"""Fast paths behind `functional`: torch operators, each with a plain-torch reference that the tests hold it to."""
