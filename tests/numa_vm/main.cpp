// Test cases for a guest with several memory nodes. scripts/numa_vm_check.sh chooses them with -tc
// by how it launched the program; on another machine most of them fail.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
