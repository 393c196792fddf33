/* The least program that streams a model: what it takes of flash and RAM. */
#include HEADER

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

static JOIN(NAME, _state) state;
volatile float input, output;

int main(void) {
    float x[JOIN(UPPER, _INPUTS)], y[JOIN(UPPER, _OUTPUTS)];
    JOIN(NAME, _init)(&state);
    for (;;) {
        for (int i = 0; i < JOIN(UPPER, _INPUTS); i++) x[i] = input;
        JOIN(NAME, _step)(&state, x, y);
        for (int i = 0; i < JOIN(UPPER, _OUTPUTS); i++) output = y[i];
    }
}
