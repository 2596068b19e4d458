// The least that a C++ test needs: count, say what failed, and close with "N passed, M failed".
#pragma once
#include <cstdio>

inline int passed = 0, failed = 0;

#define EXPECT(condition, ...)                                    \
  do {                                                            \
    if (condition) {                                              \
      ++passed;                                                   \
    } else {                                                      \
      ++failed;                                                   \
      std::printf("%s:%d: %s  ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                   \
      std::printf("\n");                                          \
    }                                                             \
  } while (0)

inline int report_tests() {
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
