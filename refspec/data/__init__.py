"""Exports that come with refspec; read them through `refspec.datasets`."""
