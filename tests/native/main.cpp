// Runs every test, or those whose names contain the argument; the exit code is 0 if all passed.
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>

#include "kit.hpp"

int main(int count, char** arguments) {
    const std::string wanted = count > 1 ? arguments[1] : "";
    int ran = 0, failed = 0;
    for (const kit::Test& test : kit::tests()) {
        if (std::string(test.name).find(wanted) == std::string::npos) continue;
        const auto began = std::chrono::steady_clock::now();
        std::string why;
        try {
            test.body();
        } catch (const std::exception& error) {
            why = error.what();
        }
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
        std::printf("%s %s (%.2f s)\n", why.empty() ? "ok    " : "FAILED", test.name, seconds.count());
        if (!why.empty()) std::printf("       %s\n", why.c_str());
        std::fflush(stdout);
        ++ran;
        failed += !why.empty();
    }
    std::printf("%d tests, %d failed\n", ran, failed);
    return ran == 0 || failed ? 1 : 0;
}
