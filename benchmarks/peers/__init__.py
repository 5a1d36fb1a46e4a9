"""medtex-edge against what an engineer would write with common libraries."""
