static void fill_inputs(void)
{
    uint32_t state = $seed;

    for (uint32_t i = 0; i < model.input_count; i++) {
        uint8_t *bytes = model.inputs[i].data;

        for (uint32_t j = 0; j < model.inputs[i].bytes; j++) {
            state = state * 1664525u + 1013904223u;
            bytes[j] = (uint8_t)(state >> 24);
        }
    }
}

static uint32_t outputs_crc32(void)
{
    uint32_t crc = 0;

    for (uint32_t i = 0; i < model.output_count; i++) {
        crc = tflnest_crc32(crc, model.outputs[i].data, model.outputs[i].bytes);
    }
    return crc;
}
