/* Which variant of the kernels is compiled.
 *
 * narrow  portable C; decoded weights and pixels are int8. It needs the least memory and suits cores without SIMD.
 * wide    portable C; they are int16 with the zero point taken off, and compilers make SIMD of it.
 * x86     as wide, with AVX2 or AVX-512: for engines on desktops.
 * DSP     as wide, with the instructions of the DSP extension of Armv7E-M and Armv8-M.
 * MVE     int8, with the integer instructions of the M-Profile Vector Extension (Helium).
 */
#ifndef TFLNEST_VARIANT_H
#define TFLNEST_VARIANT_H

#define TFLNEST_VARIANT_NARROW 0
#define TFLNEST_VARIANT_WIDE 1
#define TFLNEST_VARIANT_DSP 2
#define TFLNEST_VARIANT_X86 3
#define TFLNEST_VARIANT_MVE 4

/* Define TFLNEST_VARIANT to choose one, or TFLNEST_PORTABLE to keep to portable C. */
#ifndef TFLNEST_VARIANT
#if !defined(TFLNEST_PORTABLE) && defined(__ARM_FEATURE_MVE)
#define TFLNEST_VARIANT TFLNEST_VARIANT_MVE
#elif !defined(TFLNEST_PORTABLE) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
#define TFLNEST_VARIANT TFLNEST_VARIANT_DSP
#elif !defined(TFLNEST_PORTABLE) && defined(__AVX2__)
#define TFLNEST_VARIANT TFLNEST_VARIANT_X86
#elif defined(__x86_64__) || defined(__aarch64__)
#define TFLNEST_VARIANT TFLNEST_VARIANT_WIDE
#else
#define TFLNEST_VARIANT TFLNEST_VARIANT_NARROW
#endif
#endif

#endif
