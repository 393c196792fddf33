"""C files in folders that build systems of microcontrollers and hosts take as they are."""
