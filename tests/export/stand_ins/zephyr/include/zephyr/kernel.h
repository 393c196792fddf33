#ifndef KERNEL_STAND_IN_H
#define KERNEL_STAND_IN_H
#include <stdio.h>
#define printk printf
#endif
