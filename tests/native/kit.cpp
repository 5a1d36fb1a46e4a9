#include "kit.hpp"

#include <cstdlib>

namespace kit {

using medtex::Layout;
using std::int64_t;
using std::size_t;
using std::uint8_t;

Block::Block(Random& random, const std::vector<int64_t>& sizes, size_t loose) {
    std::ptrdiff_t span = 1;  // from the first byte of an axis to the byte after its last
    int64_t before = 0;
    for (size_t axis = 0; axis < sizes.size(); ++axis) {
        const bool free = axis + loose >= sizes.size();
        const std::ptrdiff_t step = span + (free && random.chance(50) ? random.between(1, 5) : 0);
        const bool backwards = free && random.chance(30);
        strides_.push_back(backwards ? -step : step);
        if (backwards) before += (sizes[axis] - 1) * step;
        span += (sizes[axis] - 1) * step;
    }
    offset_ = static_cast<size_t>(before);
    bytes.resize(static_cast<size_t>(span));
    for (uint8_t& byte : bytes) byte = random.byte();
}

namespace {

Block three_channels(Random& random, int64_t height, int64_t width, bool planes) {
    if (planes) return {random, {width, height, 3}, 3};
    return {random, {3, width, height}, random.chance(50) ? size_t{1} : size_t{3}};
}

}  // namespace

Rgb::Rgb(Random& random, int64_t h, int64_t w)
    : height(h), width(w), planes_(random.chance(20)), block_(three_channels(random, h, w, planes_)) {}

medtex::Target Rgb::target() {
    const size_t row = planes_ ? 1 : 2, column = planes_ ? 0 : 1, channel = planes_ ? 2 : 0;
    return {block_.data(), height, width, block_.stride(row), block_.stride(column), block_.stride(channel)};
}

namespace {

Block pixels_of(Random& random, Layout layout, int64_t height, int64_t width) {
    if (layout == Layout::grey) return {random, {width, height}, 2};
    if (layout == Layout::yuyv) return {random, {2, width, height}, 1};
    return {random, {width, height}, 1};
}

}  // namespace

Frame::Frame(Random& random, Layout layout, int64_t h, int64_t w)
    : height(h), width(w), layout_(layout), colours_(random, h, w), pixels_(pixels_of(random, layout, h, w)),
      chroma_(random, {w, (h + 1) / 2}, 1) {}

medtex::Source Frame::source() const {
    medtex::Source frame;
    frame.layout = layout_;
    if (layout_ == Layout::rgb || layout_ == Layout::bgr) {
        const medtex::Target t = const_cast<Rgb&>(colours_).target();
        static_cast<medtex::Picture<const uint8_t>&>(frame) = {t.data, height, width, t.row, t.column, t.channel};
        return frame;
    }
    const bool pairs = layout_ == Layout::yuyv;
    static_cast<medtex::Picture<const uint8_t>&>(frame) = {
        pixels_.data(), height, width, pixels_.stride(pairs ? 2 : 1), pixels_.stride(pairs ? 1 : 0), pairs ? 1 : 0};
    frame.chroma = chroma_.data();
    frame.chroma_row = chroma_.stride(1);
    return frame;
}

void Frame::paint(int64_t y, int64_t x, uint8_t level) {
    const medtex::Source frame = source();
    uint8_t* const pixel = const_cast<uint8_t*>(frame.at(y, x));
    pixel[0] = level;
    switch (layout_) {
        case Layout::grey: break;
        case Layout::yuyv: pixel[1] = 128; break;
        case Layout::nv12: chroma_.data()[(y / 2) * frame.chroma_row + x] = 128; break;
        case Layout::rgb:
        case Layout::bgr: pixel[frame.channel] = pixel[2 * frame.channel] = level;
    }
}

std::vector<Test>& tests() {
    static std::vector<Test> all;
    return all;
}

}  // namespace kit
