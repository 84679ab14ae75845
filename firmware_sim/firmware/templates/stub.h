/* What `main` sees of a model that does nothing. */
#ifndef MODEL_H
#define MODEL_H

#include "tflnest/tflnest_pager.h"

#define MODEL_IDENTITY "0000000000000000000000000000000000000000000000000000000000000000"

extern const tflnest_model model;
extern tflnest_pager model_pager;

tflnest_status model_start(void);

#endif
