"""Readers of labelled stereo data sets, one module per layout on disk.

Each module has `EXPECTED`, the layout in one line, and `find(root, folders)`, which yields the
scenes whose ground truth is below `root`; whether their files are there is checked by
`svp_ros.data.labelled`.
"""
