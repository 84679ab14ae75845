/* $heading */
#include "model_tflite.h"

#if defined(__GNUC__) || defined(__clang__)
#define ALIGNED __attribute__((aligned(16)))
#else
#define ALIGNED
#endif

const unsigned int model_tflite_size = ${size}u;
const unsigned char model_tflite[$size] ALIGNED = {
$bytes
};
