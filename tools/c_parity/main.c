/* Sequences from standard input through a model, answers to standard output: half of each sample by
 * sample, the rest in chunks that divide nothing. Arguments: how many sequences, samples of each.
 * NAME is what its functions begin with, UPPER its constants, HEADER its header. */
#include <stdio.h>
#include <stdlib.h>
#include HEADER

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define OF(what) JOIN(NAME, what)
#define INPUTS JOIN(UPPER, _INPUTS)
#define OUTPUTS JOIN(UPPER, _OUTPUTS)

static OF(_state) state;

int main(int count, char **arguments) {
    if (count != 3) return 2;
    const size_t rows = (size_t)atol(arguments[1]), samples = (size_t)atol(arguments[2]);
    float *x = malloc(sizeof(float) * INPUTS * samples);
    float *y = malloc(sizeof(float) * OUTPUTS * samples);
    if (x == NULL || y == NULL) return 3;
    for (size_t row = 0; row < rows; row++) {
        if (fread(x, sizeof(float), INPUTS * samples, stdin) != INPUTS * samples) return 4;
        OF(_init)(&state);
        size_t t = 0;
        for (; t < samples / 2; t++) OF(_step)(&state, x + t * INPUTS, y + t * OUTPUTS);
        while (t < samples) {
            const size_t part = samples - t < 37 ? samples - t : 37;
            OF(_chunk)(&state, x + t * INPUTS, y + t * OUTPUTS, (int)part);
            t += part;
        }
        if (fwrite(y, sizeof(float), OUTPUTS * samples, stdout) != OUTPUTS * samples) return 5;
    }
    free(x);
    free(y);
    return OF(_selftest)() ? 6 : 0;
}
