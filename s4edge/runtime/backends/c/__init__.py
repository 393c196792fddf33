"""Models as C: libraries, C files, and the compilers between them."""
