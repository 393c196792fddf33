/* What sketches of packages call of Arduino's core. */
#ifndef ARDUINO_STAND_IN_H
#define ARDUINO_STAND_IN_H
#include <cstdio>
#include <cstdlib>

/* Which core it is: with this macro, some of a sketch is compiled, too. */
#define ARDUINO_ARCH_ESP32
#define SET_LOOP_TASK_STACK_SIZE(size) unsigned loop_stack_size() { return size; }

unsigned loop_stack_size();

struct SerialPort {
    int next = -2; /* -2: not read yet */
    void begin(unsigned long) {}
    explicit operator bool() const { return true; }
    int available() {
        if (next == -2) next = std::getchar();
        if (next == EOF) std::exit(0);
        return 1;
    }
    int read() {
        const int letter = next;
        next = -2;
        return letter;
    }
    void print(const char *text) { std::fputs(text, stdout); }
    void print(char letter) { std::putchar(letter); }
    void print(int number) { std::printf("%d", number); }
    void print(double number, int digits) { std::printf("%.*f", digits, number); }
    void println(const char *text = "") { std::puts(text); }
};

extern SerialPort Serial;
inline unsigned long millis() { return 0; }
/* A sketch waits only where all is over. */
inline void delay(unsigned long) { std::exit(1); }

void setup();
void loop();
#endif
