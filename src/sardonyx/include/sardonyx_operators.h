/* Operators in a shared library, for SessionOptions.register_custom_ops_library of Sardonyx.

   A library exports one function, sardonyx_operators, which returns a description of its operators that stays valid while the
   library is loaded. Functions may be called by several threads at once, and must not keep pointers that they are given. */
#ifndef SARDONYX_OPERATORS_H
#define SARDONYX_OPERATORS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SARDONYX_OPERATORS_VERSION 1u
#define SARDONYX_MOST_AXES 64

/* A tensor. type: the element type's number in ONNX (1: float, 7: int64, 11: double; strings are not supported). rank: from 0 to
   SARDONYX_MOST_AXES. data: the elements, in C order; NULL while only shapes are asked for. An absent input has type 0. */
typedef struct {
    int32_t type;
    int32_t rank;
    int64_t *sizes;
    void *data;
} sardonyx_tensor;

/* An attribute of a node. values: int64_t[count], float[count], or for a text char[count], followed by a zero. */
typedef struct {
    const char *name;
    int64_t count;
    const void *values;
} sardonyx_attribute;

/* What a function gets. An absent attribute is not among the attributes. message: where it may write why it fails, a text of at
   most message_size bytes with its zero. */
typedef struct {
    int32_t inputs, outputs, attributes;
    const sardonyx_tensor *input;
    sardonyx_tensor *output;
    const sardonyx_attribute *attribute;
    char *message;
    size_t message_size;
} sardonyx_call;

/* An operator. name: "my.domain::Name". attributes: "alpha:float count:int axes:ints weights:floats mode:string", or NULL.
   shape: sets type, rank and sizes of each output (sizes has room for SARDONYX_MOST_AXES), from those of the inputs.
   compute: writes the elements of each output. Both return 0, or another number if they fail. */
typedef struct {
    const char *name;
    int32_t since, inputs, outputs;
    const char *attributes;
    int32_t (*shape)(const sardonyx_call *);
    int32_t (*compute)(const sardonyx_call *);
} sardonyx_operator;

typedef struct {
    uint32_t version; /* SARDONYX_OPERATORS_VERSION */
    uint32_t count;
    const sardonyx_operator *operators;
} sardonyx_library;

#if defined(_WIN32)
__declspec(dllexport)
#else
__attribute__((visibility("default")))
#endif
const sardonyx_library *sardonyx_operators(void);

#ifdef __cplusplus
}
#endif
#endif
