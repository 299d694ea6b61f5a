"""An HTTP service around :func:`verifier.certificate.verify_certificate`: stateless, open to everybody."""
