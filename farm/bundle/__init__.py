"""`farm bundle` and `farm check`: an engine of a finished sweep as a folder that needs no farm.

`cells` finds what the store knows of a cell, `manifest` writes it down as `bundle.json`,
`onnx_file` says in the ONNX file itself what it needs, `sample` compares an image, `folder` puts
all files together. `detector` is the program of the folder, copied as it is: it imports numpy,
OpenCV and a runtime alone.
"""

from farm.called import callable_as_function

callable_as_function(__name__)
