// What the tests share: numbers drawn alike on every machine, pictures that lie oddly in memory, a list of tests.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "geometry.hpp"

namespace kit {

// SplitMix64 (Steele, Lea, Flood 2014): the distributions of the standard library differ between its makers.
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}

    std::uint64_t bits() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    // low..high, both included.
    std::int64_t between(std::int64_t low, std::int64_t high) {
        return low + static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(high - low + 1));
    }
    std::uint8_t byte() { return static_cast<std::uint8_t>(bits() >> 56); }
    float unit() { return static_cast<float>(bits() >> 40) * 0x1p-24f; }  // 0..1, 1 left out
    bool chance(int percent) { return between(1, 100) <= percent; }

private:
    std::uint64_t state_;
};

// Random bytes, exactly as many as the axes need: the one before and the one after are nobody's.
class Block {
public:
    // Sizes from the innermost axis to the outermost. Of the last `loose` axes each may have gaps and run backwards;
    // the others are packed.
    Block(Random& random, const std::vector<std::int64_t>& sizes, std::size_t loose);

    std::uint8_t* data() { return bytes.data() + offset_; }
    const std::uint8_t* data() const { return bytes.data() + offset_; }
    std::ptrdiff_t stride(std::size_t axis) const { return strides_[axis]; }

    std::vector<std::uint8_t> bytes;

private:
    std::vector<std::ptrdiff_t> strides_;
    std::size_t offset_ = 0;
};

// A picture of three channels in any order of its axes. A copy lies as the original does, so that all their bytes may be
// compared, the gaps too.
class Rgb {
public:
    Rgb(Random& random, std::int64_t height, std::int64_t width);

    medtex::Target target();
    const std::vector<std::uint8_t>& bytes() const { return block_.bytes; }

    std::int64_t height, width;

private:
    bool planes_;
    Block block_;
};

// A frame of random bytes in any layout, as loosely as the layout may lie.
class Frame {
public:
    Frame(Random& random, medtex::Layout layout, std::int64_t height, std::int64_t width);

    medtex::Source source() const;
    void paint(std::int64_t y, std::int64_t x, std::uint8_t level);  // grey, where there is colour

    std::int64_t height, width;

private:
    medtex::Layout layout_;
    Rgb colours_;
    Block pixels_, chroma_;
};

inline constexpr std::array kLayouts{medtex::Layout::rgb, medtex::Layout::bgr, medtex::Layout::grey,
                                     medtex::Layout::yuyv, medtex::Layout::nv12};

struct Test {
    const char* name;
    void (*body)();
};
std::vector<Test>& tests();

struct Register {
    Register(const char* name, void (*body)()) { tests().push_back({name, body}); }
};

template <class... Parts>
[[noreturn]] void fail(const char* file, int line, const Parts&... parts) {
    std::ostringstream text;
    text << file << ":" << line << ": ";
    ((text << parts << " "), ...);
    throw std::runtime_error(text.str());
}

}  // namespace kit

// TEST(name) { ... }: the name is a sentence about behaviour.
#define TEST(name)                                      \
    static void name();                                 \
    static const kit::Register register_##name{#name, name}; \
    static void name()

// CHECK(condition, what it was, ...)
#define CHECK(condition, ...)                                                     \
    do {                                                                          \
        if (!(condition)) kit::fail(__FILE__, __LINE__, #condition, __VA_ARGS__); \
    } while (false)
