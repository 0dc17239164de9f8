"""`farm bundle` and `farm check`: an engine of a finished sweep as a folder that needs no farm.

`cells` finds what the store knows of a cell, `manifest` writes it down as `bundle.json`, `onnx_file`
names what an ONNX file holds, `folder` puts the files together and compares the sample. `detector`
is the program of the folder, copied as it is: it imports numpy, OpenCV and a runtime alone.
"""
