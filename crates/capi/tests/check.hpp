// Checks that say where they failed.

#ifndef CHECK_HPP
#define CHECK_HPP

#include <cstdio>
#include <cstdlib>

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                \
        }                                                                                \
    } while (false)

// That an expression throws Error, of this status.
#define CHECK_STATUS(expression, expected)                                                     \
    do {                                                                                       \
        ::capnproto_shm_transport::Status found = CSHM_OK;                                     \
        try {                                                                                  \
            (void)(expression);                                                                \
        } catch (const ::capnproto_shm_transport::Error& error) {                              \
            found = error.status();                                                            \
        }                                                                                      \
        if (found != (expected)) {                                                             \
            std::fprintf(stderr, "%s:%d: %s is %d, not %s\n", __FILE__, __LINE__, #expression, \
                static_cast<int>(found), #expected);                                           \
            std::exit(1);                                                                      \
        }                                                                                      \
    } while (false)

#endif
