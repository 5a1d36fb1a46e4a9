// The image geometry: find the field of view of a fundus photograph, cut its box, resize it.
//
// It knows no Python. Each function does, step for step, what its namesake in medtex_edge/image/reference.py does.
// The method is explained there; the tests require the same box and the same pixels of both.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace medtex {

// A picture of `height` x `width` pixels with three channels somewhere in memory; strides in bytes, also negative.
template <class Byte>
struct Picture {
    Byte* data;
    std::int64_t height, width;
    std::ptrdiff_t row, column, channel;

    Byte* at(std::int64_t y, std::int64_t x) const { return data + y * row + x * column; }
};
using Target = Picture<std::uint8_t>;

// How a frame's pixels lie in memory; the numbers are shared with medtex_edge/image/reference.py. yuyv and nv12 are what
// V4L2 and CSI cameras deliver: BT.601, limited range; both sides even, `column` and `channel` packed.
enum class Layout : int {
    rgb,   // three channels, any strides
    bgr,   // the same with the other order
    grey,  // one channel, any strides
    yuyv,  // two bytes a pixel: Y and, in turn, U and V of a pair
    nv12,  // a plane of Y, then one of U and V in turn for each two rows, which lies at `chroma`
};

using Colour = std::array<int, 3>;

// The integers of BT.601 (ITU-T H.273), rounded: luma y, chroma u and v, all in 0..255 -> RGB.
inline Colour colour_of(int y, int u, int v) {
    const int c = 298 * (y - 16) + 128, d = u - 128, e = v - 128;
    const auto clip = [](int value) { return std::clamp(value >> 8, 0, 255); };
    return {clip(c + 409 * e), clip(c - 100 * d - 208 * e), clip(c + 516 * d)};
}

// A frame as a camera delivers it.
struct Source : Picture<const std::uint8_t> {
    Layout layout = Layout::rgb;
    const std::uint8_t* chroma = nullptr;
    std::ptrdiff_t chroma_row = 0;
};

// One pixel of a layout; three channels are taken as they come: which of them is red does not matter here.
template <Layout kLayout>
struct Reader {
    const Source& frame;

    Colour at(std::int64_t y, std::int64_t x) const {
        const std::uint8_t* p = frame.at(y, x);
        if constexpr (kLayout == Layout::grey) return {p[0], p[0], p[0]};
        if constexpr (kLayout == Layout::yuyv) {
            const std::uint8_t* pair = frame.at(y, x & ~std::int64_t{1});
            return colour_of(p[0], pair[1], pair[3]);
        }
        if constexpr (kLayout == Layout::nv12) {
            const std::uint8_t* pair = frame.chroma + (y >> 1) * frame.chroma_row + (x & ~std::int64_t{1});
            return colour_of(p[0], pair[0], pair[1]);
        }
        return {p[0], p[frame.channel], p[2 * frame.channel]};
    }
};

// The outcome of `detect_fov`; the numbers are shared with medtex_edge/image/reference.py.
enum class Status { found, tiny, strip, black, white, even, noise, faint, scattered, hollow };

// Where `status` is found: the square box in pixels (it may reach beyond the picture), and how many samples of its
// inscribed disc are lit, of how many in all. Else `figure` is the number of the refusal.
struct FovDetection {
    Status status = Status::found;
    std::int64_t left = 0, top = 0, side = 0;
    std::int64_t lit = 0, total = 0;
    std::int64_t figure = 0;
};

inline constexpr std::int64_t kMaxPictureSide = 65535;  // squares of doubled coordinates stay within 64 bits
inline constexpr std::int64_t kMaxBoxSide = 131072;     // a row's weighted sum stays within 32 bits
inline constexpr std::int64_t kMaxTargetSide = 16384;

// Find the field of view. The picture's sides are 1 to kMaxPictureSide. Allocates once per thread.
FovDetection detect_fov(const Source& frame);

// Cut the box out of `frame` (black beyond it) and resize it to all of `out`, RGB. `side` is 1 to kMaxBoxSide,
// out's sides 1 to kMaxTargetSide. The two must not overlap.
void crop_resize(const Source& frame, std::int64_t left, std::int64_t top, std::int64_t side, const Target& out);

}  // namespace medtex
