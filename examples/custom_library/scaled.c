/* my.domain::Scaled: x * factor, for floats. cc -shared -fPIC -I"$(python -c 'import sardonyx; print(sardonyx.__path__[0])')/include"
   -o scaled.so scaled.c */
#include <stdio.h>
#include <string.h>

#include "sardonyx_operators.h"

static int32_t shape(const sardonyx_call *call) {
    const sardonyx_tensor *x = &call->input[0];
    sardonyx_tensor *y = &call->output[0];
    if (x->type != 1) {
        snprintf(call->message, call->message_size, "elements of type %d are not floats", (int)x->type);
        return 1;
    }
    y->type = x->type;
    y->rank = x->rank;
    memcpy(y->sizes, x->sizes, sizeof(int64_t) * (size_t)x->rank);
    return 0;
}

static int32_t compute(const sardonyx_call *call) {
    const sardonyx_tensor *x = &call->input[0];
    const float *from = x->data;
    float *to = call->output[0].data, factor = 2.0f;
    int64_t count = 1;
    for (int32_t i = 0; i < call->attributes; i++)
        if (!strcmp(call->attribute[i].name, "factor")) factor = *(const float *)call->attribute[i].values;
    for (int32_t i = 0; i < x->rank; i++) count *= x->sizes[i];
    for (int64_t i = 0; i < count; i++) to[i] = from[i] * factor;
    return 0;
}

static const sardonyx_operator operators[] = {{"my.domain::Scaled", 1, 1, 1, "factor:float", shape, compute}};
static const sardonyx_library library = {SARDONYX_OPERATORS_VERSION, 1, operators};

const sardonyx_library *sardonyx_operators(void) { return &library; }
