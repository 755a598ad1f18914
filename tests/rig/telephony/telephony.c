/*
 * telephony.c: a Python module of a program's own that carries pjsip: no pjsua2, no SWIG, another name. It lies in an extension, or
 * in a program that embeds Python (embed.c).
 */
#include <Python.h>
#include <pjsua-lib/pjsua.h>

static PyObject *start(PyObject *self, PyObject *nothing)
{
    pjsua_transport_config local;
    pj_status_t status;

    (void)self;
    (void)nothing;
    pjsua_transport_config_default(&local);
    local.bound_addr = pj_str("127.0.0.1");
    status = pjsua_create();
    if (status == PJ_SUCCESS)
        status = pjsua_init(NULL, NULL, NULL);
    if (status == PJ_SUCCESS)
        status = pjsua_transport_create(PJSIP_TRANSPORT_UDP, &local, NULL);
    if (status == PJ_SUCCESS)
        status = pjsua_start();
    return PyLong_FromLong(status);
}

static PyObject *stop(PyObject *self, PyObject *nothing)
{
    pj_status_t status;

    (void)self;
    (void)nothing;
    Py_BEGIN_ALLOW_THREADS
    status = pjsua_destroy2(PJSUA_DESTROY_NO_NETWORK);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(status);
}

static PyMethodDef functions[] = { { "start", start, METH_NOARGS, "pjsua with a UDP transport on 127.0.0.1." },
                                   { "stop", stop, METH_NOARGS, "Its end." },
                                   { NULL, NULL, 0, NULL } };

static PyModuleDef module = { PyModuleDef_HEAD_INIT, "telephony", NULL, -1, functions, NULL, NULL, NULL, NULL };

PyMODINIT_FUNC PyInit_telephony(void) { return PyModule_Create(&module); }
