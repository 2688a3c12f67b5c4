// The Mandelbrot set on 160 x 120 points: floating point with an early way out.
#include "kernel.h"

EXPORT int64_t run(void) {
    int64_t sum = 0;
    for (int y = 0; y < 120; y++) {
        for (int x = 0; x < 160; x++) {
            double cr = x * (3.0 / 160) - 2.0, ci = y * (2.0 / 120) - 1.0, zr = 0, zi = 0;
            int n = 0;
            while (n < 100 && zr * zr + zi * zi < 4.0) {
                double next = zr * zr - zi * zi + cr;
                zi = 2 * zr * zi + ci;
                zr = next;
                n++;
            }
            sum += n;
        }
    }
    return sum;
}
