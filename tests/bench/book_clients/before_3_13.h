/* What order-book needs of the C API of Python 3.13, for older Pythons; as 3.13 with a GIL has it. Included by force. */
#pragma once
#include <Python.h>
#if PY_VERSION_HEX < 0x030D0000
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#define Py_BEGIN_CRITICAL_SECTION2(first, second) {
#define Py_END_CRITICAL_SECTION2() }
static inline int PyDict_GetItemRef(PyObject *dict, PyObject *key, PyObject **result) {
  *result = PyDict_GetItemWithError(dict, key);
  if (*result == NULL) return PyErr_Occurred() ? -1 : 0;
  Py_INCREF(*result);
  return 1;
}
#endif
