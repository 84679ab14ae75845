/* $heading */
#ifndef MODEL_TFLITE_H
#define MODEL_TFLITE_H

#ifdef __cplusplus
extern "C" {
#endif

/* The `.tflite` file, aligned to 16 bytes. */
extern const unsigned char model_tflite[];
extern const unsigned int model_tflite_size;

#ifdef __cplusplus
}
#endif

#endif
