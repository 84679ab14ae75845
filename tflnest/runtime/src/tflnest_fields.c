#include "tflnest_fields.h"

static inline int field_is(const tflnest_field *field, uint32_t bits, uint32_t shift)
{
    return field->bits == bits && field->shift == shift;
}

tflnest_field_list tflnest_fields_of(const tflnest_filter *filter)
{
    const tflnest_field *fields = filter->fields;
    if (filter->values != NULL || !filter->disjoint || filter->offset < 128 || !field_is(&fields[0], 4, 4)) {
        return TFLNEST_FIELDS_OTHER;
    }
    if (filter->field_count == 1) {
        return TFLNEST_FIELDS_4;
    }
    if (filter->field_count == 2 && field_is(&fields[1], 4, 0)) {
        return TFLNEST_FIELDS_4_4;
    }
    if (filter->field_count == 2 && field_is(&fields[1], 2, 2)) {
        return TFLNEST_FIELDS_4_2;
    }
    if (filter->field_count == 3 && field_is(&fields[1], 2, 2) && field_is(&fields[2], 2, 0)) {
        return TFLNEST_FIELDS_4_2_2;
    }
    return TFLNEST_FIELDS_OTHER;
}
