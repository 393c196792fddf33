#ifndef TASK_STAND_IN_H
#define TASK_STAND_IN_H
static inline void vTaskDelay(unsigned ticks) { (void)ticks; }
#endif
