// Included first by the operations that are compiled on the user's machine.
//
// A loop marked TFXC_CLONES is compiled once for each class of processors, and the loader picks the
// widest that the processor has. So TensorFlow's headers need no -march, with which Eigen's do not
// compile for every processor.

#pragma once

#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__) && __GNUC__ >= 12
#define TFXC_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TFXC_CLONES
#endif

// Where CXX asks for an -march of its own: Eigen's half precision of AVX512-FP16
// (PacketMathFP16.h) does not compile with GCC 12, and nothing here needs it.
#undef __AVX512FP16__
