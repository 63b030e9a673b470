//! A virtual tape library of removable magazines: vchanger's model, commands and state
