/* Includes the file BODY once for float and once for double: REAL is the type, INTEGER one of its size, NAME(name) a name
   of its own for each, NAME(Vector) a vector of WIDE numbers, V and RV one in memory. */

#define WIDE ((int)(BYTES / sizeof(REAL)))
#define V(p) (*(NAME(Vector) *)(p))
#define RV(p) (*(const NAME(Vector) *)(p))

#define REAL float
#define INTEGER int32_t
#define NAME(name) name##_float
typedef REAL NAME(Vector) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER NAME(Flags) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
#include BODY
#undef REAL
#undef INTEGER
#undef NAME
#define REAL double
#define INTEGER int64_t
#define NAME(name) name##_double
typedef REAL NAME(Vector) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER NAME(Flags) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
#include BODY
