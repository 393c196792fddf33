#include "Arduino.h"

SerialPort Serial;

int main() {
    if (loop_stack_size() < 8192) return 2;
    for (setup();;) loop();
}
