// One function, several processors: the loader picks the widest that this one has. NEON is part of every aarch64.
#pragma once

#include <cstddef>  // defines __GLIBC__ where this is glibc, whose loader the clones need

#if defined(__x86_64__) && defined(__ELF__) && defined(__GLIBC__) && defined(__has_attribute) && \
    !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#if __has_attribute(target_clones)
#define MEDTEX_CLONES __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef MEDTEX_CLONES
#define MEDTEX_CLONES
#endif
