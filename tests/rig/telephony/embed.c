/*
 * embed.c: a program in C that carries pjsip and embeds Python: started like python, it has the module telephony built in.
 */
#include <Python.h>

PyMODINIT_FUNC PyInit_telephony(void);

int main(int count, char **words)
{
    PyImport_AppendInittab("telephony", &PyInit_telephony);
    return Py_BytesMain(count, words);
}
